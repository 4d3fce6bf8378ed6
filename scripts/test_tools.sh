#!/bin/sh
# Sees to the independent peers and validators that the tests use: installs them where this is
# a Debian system and we are root, else says what to install. Tests that lack a tool are reported as not run.
set -u
missing=""
need() { # program package
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need /usr/bin/storescu dcmtk
need dciodvfy dicom3tools
need Orthanc orthanc
need pdftotext poppler-utils
need strace strace
need chromium chromium
[ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || missing="$missing orthanc-dicomweb"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 && [ -z "${NO_APT:-}" ]; then
    echo "Installing test tools:$missing" >&2
    (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing) >/tmp/dicom-node-apt.log 2>&1 && exit 0
    echo "They could not be installed (see /tmp/dicom-node-apt.log); the tests that need them are reported as not run." >&2
    exit 0
fi
echo "Not installed:$missing. The tests that need them are reported as not run. To run them: apt-get install$missing" >&2
