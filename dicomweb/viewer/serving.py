"""The OHIF viewer on this node's DICOMweb: its page, its configuration, its files.

The files hold no patient data and need no key; what the page then asks of DICOMweb does, by the console's session.
"""

# No postponed annotations here: the framework reads `Annotated[…, Depends]` made inside functions.

import json
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from dicomweb.auth import Access
from dicomweb.console.pages import Pages
from dicomweb.errors import NotAuthenticated
from dicomweb.ports import WebParts
from dicomweb.qido import PREFIX as DICOMWEB
from dicomweb.viewer.package import CONTENTS, VERSION
from storage.errors import NotKept

PREFIX = "/viewer"
#: What makes the viewer open one study.
STUDY = PREFIX + "/viewer?StudyInstanceUIDs="
#: What the page and its workers may load: nothing from elsewhere, no script within a page. Its codecs are WebAssembly
#: that names its classes by evaluated text; React and the viewports set styles of elements.
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval' 'unsafe-eval'; worker-src 'self' blob:; "
    "connect-src 'self' blob: data:; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "font-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_IMMUTABLE = "public, max-age=31536000, immutable"
_CHECKED = "no-cache"
_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Viewer · dicom-node</title>
<link rel="icon" href="$prefix/assets/favicon.ico">
<link rel="preload" as="script" href="$prefix/$script">
<link rel="stylesheet" href="$prefix/$style">
<script src="$prefix/app-config.js"></script>
<script defer src="$prefix/$script"></script>
</head>
<body>
<noscript>The viewer needs JavaScript. Without it, the console shows pictures of results.</noscript>
<div id="react-portal"></div>
<div id="root"></div>
</body>
</html>
""")
#: Before anything else of the viewer runs. Who is not known logs in first, and comes back.
_LOG_IN = """location.replace("/console/login?next=" + encodeURIComponent(location.pathname + location.search));
"""
_START = Template("""window.PUBLIC_URL = "$prefix/";
window.browserImportFunction = (name) => import(name);
window.config = $config;
for (const source of window.config.dataSources) {
  for (const root of ["wadoUriRoot", "qidoRoot", "wadoRoot"]) {
    source.configuration[root] = location.origin + source.configuration[root];
  }
}
window.config.httpErrorHandler = (error) => {
  if (error && error.status === 401) {
    $login
  }
};
""")


@dataclass(frozen=True)
class Installed:
    """What `make viewer` laid out."""

    folder: Path
    version: str
    script: str
    style: str
    files: frozenset[str]


class Viewer:
    """Finds the viewer's files; it may be added while the node runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: tuple[int, Installed] | None = None

    def installed(self) -> Installed | None:
        """Give what there is now; None: nothing, or a version that this node does not serve."""
        try:
            made_at = (self._folder / CONTENTS).stat().st_mtime_ns
            if self._found is None or self._found[0] != made_at:
                said = json.loads((self._folder / CONTENTS).read_text())
                if said["version"] != VERSION:
                    return None
                found = Installed(self._folder, VERSION, said["script"], said["style"], frozenset(said["files"]))
                self._found = made_at, found
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return self._found[1]


def routes(parts: WebParts, pages: Pages, access: Access, viewer: Viewer) -> APIRouter:
    """Give /viewer."""
    router = APIRouter(include_in_schema=False)

    @router.get(PREFIX)
    def study_list() -> Response:
        return _page(pages, viewer.installed())

    @router.get(PREFIX + "/app-config.js")
    def configuration(request: Request) -> Response:
        try:
            caller = access.caller_of(request)
        except NotAuthenticated:
            return _script(_LOG_IN)
        config = configuration_of(parts.settings.node.name, may_store="store" in caller.permissions)
        return _script(_START.substitute(prefix=PREFIX, config=json.dumps(config, indent=1), login=_LOG_IN.strip()))

    @router.get(PREFIX + "/{path:path}")
    def file(path: str, request: Request) -> Response:
        installed = viewer.installed()
        if installed is not None and path in installed.files:
            return _file(installed, path, request.headers)
        if "." in path.rpartition("/")[2]:
            raise NotKept("The viewer has no such file.")
        return _page(pages, installed)

    return router


def configuration_of(name: str, *, may_store: bool) -> dict[str, Any]:
    """Say how the viewer reaches this node and what it does unasked."""
    return {
        "name": name,
        "routerBasename": PREFIX,
        "extensions": [],
        "modes": [],
        # No tour before the image: whoever comes from the console wants to see the study.
        "customizationService": {"ohif.tours": {"$set": []}},
        "showStudyList": True,
        "maxNumberOfWebWorkers": 3,
        "showWarningMessageForCrossOrigin": True,
        "showCPUFallbackMessage": True,
        "showLoadingIndicator": True,
        "strictZSpacingForVolumeViewport": True,
        # Readers do not notice a segmentation that waits for a "Yes".
        "disableConfirmationPrompts": True,
        "showErrorDetails": "always",
        "maxNumRequests": {"interaction": 100, "thumbnail": 5, "prefetch": 25},
        "defaultDataSourceName": "dicomweb",
        "dataSources": [
            {
                "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
                "sourceName": "dicomweb",
                "configuration": {
                    "friendlyName": name,
                    "name": "dicom-node",
                    "wadoUriRoot": "/wado",
                    "qidoRoot": DICOMWEB,
                    "wadoRoot": DICOMWEB,
                    "qidoSupportsIncludeField": True,
                    "supportsFuzzyMatching": True,
                    "supportsWildcard": True,
                    "supportsReject": False,
                    "dicomUploadEnabled": may_store,
                    "imageRendering": "wadors",
                    "thumbnailRendering": "thumbnail",
                    "thumbnailRequestStrategy": "fetch",
                    "enableStudyLazyLoad": True,
                    "singlepart": "bulkdata,video,pdf",
                    "bulkDataURI": {"enabled": True, "relativeResolution": "studies"},
                    "omitQuotationForMultipartRequest": True,
                },
            }
        ],
    }


def _page(pages: Pages, installed: Installed | None) -> Response:
    if installed is None:
        return pages.answer("no_viewer.html", {"viewer_version": VERSION}, status=404)
    text = _PAGE.substitute(prefix=PREFIX, script=installed.script, style=installed.style)
    return HTMLResponse(text, headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"})


def _script(text: str) -> Response:
    return Response(text, media_type="text/javascript", headers={"Cache-Control": "no-store"})


def _file(installed: Installed, name: str, asked: Mapping[str, str]) -> Response:
    """Give a file, compressed where that is taken; who has it already is told so."""
    path = installed.folder / name
    headers = {
        "Content-Security-Policy": _POLICY,
        "Cache-Control": _IMMUTABLE if _is_named_by_content(name) else _CHECKED,
        "ETag": f'"{installed.version}"',
        "Vary": "Accept-Encoding",
    }
    if asked.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    packed = path.with_name(path.name + ".gz")
    if "gzip" in asked.get("accept-encoding", "") and packed.exists():
        return FileResponse(packed, media_type=kind, headers=headers | {"Content-Encoding": "gzip"})
    return FileResponse(path, media_type=kind, headers=headers)


def _is_named_by_content(name: str) -> bool:
    """Tell whether a file's name has a digest of its content: another content has another name."""
    return any(len(part) == 16 and set(part) <= set("0123456789abcdef") for part in name.split("."))
