#!/bin/sh
# Called by Colosseum when the scenario ends. Asks splitfl-radio, by a line in a file, to end the run.
state=${SPLITFL_ROOT:-}/run/splitfl
[ -d "$state" ] || mkdir -p "$state"
echo STOP >>"$state/requests"
