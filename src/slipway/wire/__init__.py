"""What travels between the command line, the console and the platform API: requests, answers, events.

Pydantic models, strict about what a person wrote (unknown fields of requests are refused) and lenient about what a
newer server sends. Long work answers with NDJSON: one event a line, the last one ``done`` or ``error``.

Events, by the value of ``event``:

==================  ===================================================================================
``phase``           ``name``, ``state`` (start, done), ``seconds``
``build.start``     ``build``, ``service``
``build.queued``    ``build``, ``service``, ``ahead`` (builds that wait before it)
``build.step.start`` ``build``, ``service``, ``step`` (``2/7``), ``name``
``build.step.done`` the same and ``cached``, ``seconds``, ``why`` (what had changed, a list)
``build.log``       ``build``, ``service``, ``step``, ``stream``, ``text``
``blob``            ``digest``, ``size``, ``known`` (it was there already)
``layer``           ``build``, ``service``, ``digest``, ``size``, ``seconds``
``build.done``      ``build``, ``service``, ``state``, ``reference``, ``digest``, ``cached``, ``seconds``
``service.state``   ``service``, ``state``, ``instance``, ``seconds``, ``cluster`` (of an app on several)
``log``             ``service``, ``instance``, ``stream``, ``text``, ``time``
``ssh.ask``         ``session``, ``number``, ``agent``, ``message``: for the caller's SSH agent; see AgentAnswer
``warning``         ``text``; of a build check also ``rule``, ``file``, ``line``, ``url``
``done``            ``result``
``error``           ``kind``, ``message``, ``hint``, ``context``
==================  ===================================================================================

Models are imported when they are first named: a command that needs none of them starts in half the time. What the
hottest commands send is described by ``slipway.wire.bodies`` instead.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slipway.wire.accounts import (
        AppPolicy,
        BuildPolicy,
        Login,
        Me,
        Member,
        NewProject,
        NewRobot,
        NewUser,
        Password,
        Project,
        Robot,
        RobotSecret,
        SetMember,
        SigningKey,
        Token,
        User,
    )
    from slipway.wire.apps import (
        App,
        AppCluster,
        AppDetail,
        ClusterService,
        Deliver,
        Execute,
        Instance,
        MoveApp,
        Release,
        Render,
        Rollback,
        Scale,
        Service,
        Source,
        TerminalSize,
    )
    from slipway.wire.builds import AgentAnswer, Build, Builder, BuildRequest, NamedContext, Prune, Pruned
    from slipway.wire.clusters import (
        BindCluster,
        Cluster,
        ClusterBinding,
        ClusterDetail,
        ClusterNode,
        NewCluster,
        NodeResources,
    )
    from slipway.wire.findings import AdvisoriesLoaded, AdvisorySource, Finding, Findings
    from slipway.wire.images import BaseImage, Image, ImageDetail, Push, RepositoryFound
    from slipway.wire.logins import (
        DeviceAnswer,
        DeviceLogin,
        DevicePoll,
        NewPersonalToken,
        PersonalToken,
        PersonalTokenSecret,
    )
    from slipway.wire.policies import AuditEvent, AuditFilter, KeepRule, RegistryPolicy, Thrown, Verdict
    from slipway.wire.sites import (
        NewSite,
        NewWebhook,
        Site,
        SiteConflict,
        SiteOptions,
        Webhook,
        WebhookDelivery,
    )
    from slipway.wire.status import Authority, Status

_MODULES = {
    "AdvisoriesLoaded": "findings",
    "AdvisorySource": "findings",
    "AgentAnswer": "builds",
    "App": "apps",
    "AppCluster": "apps",
    "AppDetail": "apps",
    "AppPolicy": "accounts",
    "AuditEvent": "policies",
    "AuditFilter": "policies",
    "Authority": "status",
    "BaseImage": "images",
    "BindCluster": "clusters",
    "Build": "builds",
    "BuildPolicy": "accounts",
    "BuildRequest": "builds",
    "Builder": "builds",
    "Cluster": "clusters",
    "ClusterBinding": "clusters",
    "ClusterDetail": "clusters",
    "ClusterNode": "clusters",
    "ClusterService": "apps",
    "Deliver": "apps",
    "DeviceAnswer": "logins",
    "DeviceLogin": "logins",
    "DevicePoll": "logins",
    "Execute": "apps",
    "Finding": "findings",
    "Findings": "findings",
    "Image": "images",
    "ImageDetail": "images",
    "Instance": "apps",
    "KeepRule": "policies",
    "Login": "accounts",
    "Me": "accounts",
    "Member": "accounts",
    "MoveApp": "apps",
    "NamedContext": "builds",
    "NewCluster": "clusters",
    "NewPersonalToken": "logins",
    "NewProject": "accounts",
    "NewRobot": "accounts",
    "NewSite": "sites",
    "NewUpstream": "policies",
    "NewUser": "accounts",
    "NewWebhook": "sites",
    "NodeResources": "clusters",
    "Password": "accounts",
    "PersonalToken": "logins",
    "PersonalTokenSecret": "logins",
    "Project": "accounts",
    "Prune": "builds",
    "Pruned": "builds",
    "Push": "images",
    "RegistryPolicy": "policies",
    "Release": "apps",
    "RepositoryFound": "images",
    "Render": "apps",
    "Robot": "accounts",
    "RobotSecret": "accounts",
    "Rollback": "apps",
    "Scale": "apps",
    "Service": "apps",
    "SetMember": "accounts",
    "SigningKey": "accounts",
    "Site": "sites",
    "SiteConflict": "sites",
    "SiteOptions": "sites",
    "Source": "apps",
    "Status": "status",
    "TerminalSize": "apps",
    "Thrown": "policies",
    "Token": "accounts",
    "Upstream": "policies",
    "User": "accounts",
    "Verdict": "policies",
    "Webhook": "sites",
    "WebhookDelivery": "sites",
}

__all__ = [
    "AdvisoriesLoaded",
    "AdvisorySource",
    "AgentAnswer",
    "App",
    "AppCluster",
    "AppDetail",
    "AppPolicy",
    "AuditEvent",
    "AuditFilter",
    "Authority",
    "BaseImage",
    "BindCluster",
    "Build",
    "BuildPolicy",
    "BuildRequest",
    "Builder",
    "Cluster",
    "ClusterBinding",
    "ClusterDetail",
    "ClusterNode",
    "ClusterService",
    "Deliver",
    "DeviceAnswer",
    "DeviceLogin",
    "DevicePoll",
    "Execute",
    "Finding",
    "Findings",
    "Image",
    "ImageDetail",
    "Instance",
    "KeepRule",
    "Login",
    "Me",
    "Member",
    "MoveApp",
    "NamedContext",
    "NewCluster",
    "NewPersonalToken",
    "NewProject",
    "NewRobot",
    "NewSite",
    "NewUpstream",
    "NewUser",
    "NewWebhook",
    "NodeResources",
    "Password",
    "PersonalToken",
    "PersonalTokenSecret",
    "Project",
    "Prune",
    "Pruned",
    "Push",
    "RegistryPolicy",
    "Release",
    "Render",
    "RepositoryFound",
    "Robot",
    "RobotSecret",
    "Rollback",
    "Scale",
    "Service",
    "SetMember",
    "SigningKey",
    "Site",
    "SiteConflict",
    "SiteOptions",
    "Source",
    "Status",
    "TerminalSize",
    "Thrown",
    "Token",
    "Upstream",
    "User",
    "Verdict",
    "Webhook",
    "WebhookDelivery",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"slipway.wire has no {name!r}")
    return getattr(importlib.import_module(f"slipway.wire.{_MODULES[name]}"), name)
