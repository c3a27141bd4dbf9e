"""All rules, and running them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from slipway.build.lint import habits, naming, values
from slipway.build.lint.findings import Finding, Found, Subject
from slipway.errors import Failed

RULES: Mapping[str, Callable[[Subject], Found]] = {
    "StageNameCasing": naming.stage_name_casing,
    "FromAsCasing": naming.from_as_casing,
    "NoEmptyContinuation": habits.no_empty_continuation,
    "ConsistentInstructionCasing": naming.consistent_instruction_casing,
    "DuplicateStageName": naming.duplicate_stage_name,
    "ReservedStageName": naming.reserved_stage_name,
    "JSONArgsRecommended": habits.json_args_recommended,
    "MaintainerDeprecated": habits.maintainer_deprecated,
    "UndefinedArgInFrom": values.undefined_arg_in_from,
    "WorkdirRelativePath": habits.workdir_relative_path,
    "UndefinedVar": values.undefined_var,
    "MultipleInstructionsDisallowed": habits.multiple_instructions_disallowed,
    "LegacyKeyValueFormat": naming.legacy_key_value_format,
    "InvalidBaseImagePlatform": values.invalid_base_image_platform,
    "RedundantTargetPlatform": values.redundant_target_platform,
    "SecretsUsedInArgOrEnv": naming.secrets_used_in_arg_or_env,
    "InvalidDefaultArgInFrom": values.invalid_default_arg_in_from,
    "FromPlatformFlagConstDisallowed": values.from_platform_flag_const_disallowed,
    "CopyIgnoredFile": habits.copy_ignored_file,
    "InvalidDefinitionDescription": values.invalid_definition_description,
    "ExposeProtoCasing": naming.expose_proto_casing,
    "ExposeInvalidFormat": naming.expose_invalid_format,
}
EXPERIMENTAL = frozenset({"InvalidDefinitionDescription"})


def lint(subject: Subject) -> list[Finding]:
    """The findings of the rules that are not skipped, in the order of the file."""
    check = subject.dockerfile.directives.check
    skipped = {name.lower() for name in check.skip}
    if "all" in skipped:
        return []
    wanted = {name.lower() for name in check.experimental}
    found = [
        Finding(name, location, message)
        for name, rule in RULES.items()
        if name.lower() not in skipped and (name not in EXPERIMENTAL or wanted & {"all", name.lower()})
        for location, message in rule(subject)
    ]
    return sorted(found, key=lambda item: item.location.line)


def refuse(findings: Sequence[Finding]) -> None:
    """Raise ``Failed`` if there is any finding: for files that ask for it, and for ``--check``."""
    if findings:
        rules = ", ".join(sorted({item.rule for item in findings}))
        raise Failed(
            f"the build checks found something: {rules}",
            hint="mend it, or leave a rule out: # check=skip=RULE at the top of the Dockerfile",
        )
