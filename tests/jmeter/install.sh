#!/usr/bin/env bash
# Lays JMeter 5.6.3 out from Maven Central, ready to run headless.
#
#   tests/jmeter/install.sh [DIRECTORY]
#
# DIRECTORY is by default ${XDG_CACHE_HOME:-~/.cache}/tidegate/jmeter-5.6.3. A second run finds the layout
# complete and does nothing. Afterwards DIRECTORY/bin/jmeter takes JMeter's usual flags.
set -euo pipefail

version=5.6.3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() {
  printf 'install.sh: %s\n' "$*" >&2
  exit 1
}

case "${1:-}" in
  -h | --help)
    sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
  -*) fail "unknown option $1 (usage: install.sh [DIRECTORY])" ;;
esac
[ $# -le 1 ] || fail "one directory at most (usage: install.sh [DIRECTORY])"

target=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/tidegate/jmeter-$version}

command -v java >/dev/null 2>&1 ||
  fail "java is missing: install Java 8 or newer (Debian: apt-get install default-jre-headless)"
if [ -f "$target/.complete" ] && [ "$(cat "$target/.complete")" = "$version" ]; then
  printf 'JMeter %s is ready: %s/bin/jmeter\n' "$version" "$target"
  exit 0
fi
command -v mvn >/dev/null 2>&1 ||
  fail "mvn is missing: it fetches JMeter's jars from Maven Central (Debian: apt-get install maven)"

mkdir -p "$target"
target=$(cd "$target" && pwd)
# A folder that is not ours is left alone: only an empty one, or one we began, is filled.
log=$target/.install.log
if [ ! -f "$log" ] && [ -n "$(ls -A "$target")" ]; then
  fail "$target holds other files: name an empty or new directory"
fi
: >"$log"

printf 'Fetching JMeter %s from Maven Central into %s\n' "$version" "$target"
if ! mvn --batch-mode --quiet --file "$here/pom.xml" -Djmeter.home="$target" -Djmeter.version="$version" \
  package >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  fail "Maven could not fetch the jars (whole log: $log); run it again when Maven Central can be reached"
fi
[ -f "$target/bin/jmeter.properties" ] || fail "bin/jmeter.properties is missing in $target: remove it and run again"
[ -f "$target/lib/ext/ApacheJMeter_http.jar" ] || [ -f "$target/lib/ext/ApacheJMeter_http-$version.jar" ] ||
  fail "ApacheJMeter_http is missing in $target/lib/ext: remove $target and run again"

mkdir -p "$target/lib/junit" # JMeter complains at its start when this folder is not there

# The start script of the tarball is not in Maven Central: this one takes its place.
cat >"$target/bin/jmeter" <<'WRAPPER'
#!/bin/sh
# JMeter, as laid out by tidegate's tests/jmeter/install.sh. JVM_ARGS is passed to java, all else to JMeter.
home=$(cd "$(dirname "$0")/.." && pwd) || exit 1
# shellcheck disable=SC2086 # JVM_ARGS holds several words on purpose
exec java ${HEAP:--Xms256m -Xmx1g} ${JVM_ARGS:-} -Djava.awt.headless=true -Djmeter.home="$home" \
  -cp "$home/lib/*:$home/lib/ext/*:$home/bin" org.apache.jmeter.NewDriver -d "$home" "$@"
WRAPPER
chmod +x "$target/bin/jmeter"
printf '%s\n' "$version" >"$target/.complete"
printf 'JMeter %s is ready: %s/bin/jmeter\n' "$version" "$target"
