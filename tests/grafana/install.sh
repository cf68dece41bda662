#!/usr/bin/env bash
# Installs Grafana's types and a TypeScript compiler from npm, as package-lock.json pins them.
#
#   tests/grafana/install.sh [DIRECTORY]
#
# DIRECTORY is by default ${XDG_CACHE_HOME:-~/.cache}/tidegate/grafana-schema-13.2.3. A second run with the same pins
# does nothing.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/tidegate/grafana-schema-13.2.3}

if cmp -s "$here/package-lock.json" "$target/.complete"; then
  printf 'The types of Grafana are ready: %s\n' "$target"
  exit 0
fi
command -v npm >/dev/null 2>&1 || {
  echo "install.sh: npm is missing: install Node with npm (Debian: apt-get install nodejs npm)" >&2
  exit 1
}
mkdir -p "$target"
cp "$here/package.json" "$here/package-lock.json" "$target/"
npm --prefix "$target" ci --ignore-scripts --no-audit --no-fund --silent
cp "$here/package-lock.json" "$target/.complete"
printf 'The types of Grafana are ready: %s\n' "$target"
