#!/usr/bin/env bash
# System libraries for headless rendering (EGL through Mesa) and the browser test. Installs them where it may, and says
# what is missing where it may not; volar itself then tells which command cannot work.
set -u
missing=()
have() { ldconfig -p 2>/dev/null | grep -q "$1"; }
have libEGL.so || missing+=(libegl1)
have libGL.so || missing+=(libgl1)
compgen -G '/usr/lib/*/dri/swrast_dri.so' >/dev/null || compgen -G '/usr/lib64/dri/*' >/dev/null || missing+=(libgl1-mesa-dri)
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || missing+=(chromium)
[ ${#missing[@]} -eq 0 ] && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "Installing system packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null 2>&1 && exit 0
fi
echo "Missing system packages: ${missing[*]}. Install them, for example: sudo apt-get install ${missing[*]}" >&2
echo "(libegl1 libgl1 libgl1-mesa-dri: headless rendering of simulators; chromium: the browser test only)" >&2
exit 0
