#!/bin/sh
# Called by Colosseum when the scenario starts. Asks splitfl-radio, by a line in a file, to start the run.
state=${SPLITFL_ROOT:-}/run/splitfl
[ -d "$state" ] || mkdir -p "$state"
echo START >>"$state/requests"
