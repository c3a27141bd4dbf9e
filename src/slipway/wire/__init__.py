"""What travels between the command line, the console and the platform API: requests, answers, events.

Pydantic models, strict about what a person wrote (unknown fields of requests are refused) and lenient about what a
newer server sends. Long work answers with NDJSON: one event a line, the last one ``done`` or ``error``.

Events, by the value of ``event``:

==================  ===================================================================================
``phase``           ``name``, ``state`` (start, done), ``seconds``
``build.start``     ``build``, ``service``
``build.step.start`` ``build``, ``service``, ``step`` (``2/7``), ``name``
``build.step.done`` the same and ``cached``, ``seconds``
``build.log``       ``build``, ``service``, ``step``, ``stream``, ``text``
``layer``           ``build``, ``service``, ``digest``, ``size``, ``seconds``
``build.done``      ``build``, ``service``, ``state``, ``reference``, ``digest``, ``cached``, ``seconds``
``service.state``   ``service``, ``state``, ``instance``, ``seconds``
``log``             ``service``, ``instance``, ``stream``, ``text``, ``time``
``warning``         ``text``
``done``            ``result``
``error``           ``kind``, ``message``, ``hint``, ``context``
==================  ===================================================================================
"""

from slipway.wire.accounts import (
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
    Token,
    User,
)
from slipway.wire.apps import (
    App,
    AppDetail,
    Deliver,
    Instance,
    Release,
    Rollback,
    Scale,
    Service,
    Source,
)
from slipway.wire.builds import Build, BuildRequest
from slipway.wire.images import BaseImage, Image, ImageDetail
from slipway.wire.status import Status

__all__ = [
    "App",
    "AppDetail",
    "BaseImage",
    "Build",
    "BuildRequest",
    "Deliver",
    "Image",
    "ImageDetail",
    "Instance",
    "Login",
    "Me",
    "Member",
    "NewProject",
    "NewRobot",
    "NewUser",
    "Password",
    "Project",
    "Release",
    "Robot",
    "RobotSecret",
    "Rollback",
    "Scale",
    "Service",
    "SetMember",
    "Source",
    "Status",
    "Token",
    "User",
]
