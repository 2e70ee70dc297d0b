# shellcheck shell=bash
# What the scripts of this folder share: arguments, showing, changing, undoing. A script defines `plan` (what it wants) and the texts
# of its help, then calls `tune "$@"`. Which values are good, and why, is each script's own matter.
#
# The state file (STATE/<knob>.undo) holds one line a change, fields parted by tabs, written before the change is made:
#   boot    <id>                  the boot these lines belong to: what the kernel forgets at a restart needs no undoing
#   value   <path> <old>          a file of /proc or /sys that held <old>
#   run     <word> <word> ...     a command that undoes what a command did
#   file    <path>                a file that was not there before
#   folder  <path>                a folder that was not there before
# A path is recorded once: applying again keeps the value from before the first time.

knob=$(basename "$0")
root=
state=
mode=show
nics=()
cores=
wanted_count=0  # what is not as wanted
failed_count=0  # what could not be changed
# Knobs whose changes outlive a restart set this to no.
forgets=yes

say() { printf '%s\n' "$*"; }
complain() { printf '%s: %s\n' "$knob" "$*" >&2; }
give_up() {
    complain "$*"
    exit 1
}
wrong_argument() {
    complain "$*; see tuning/$knob --help"
    exit 2
}

usage() {
    say "usage: tuning/$knob [--apply | --undo] ${options:-}[--state FOLDER] [--root FOLDER]"
    say
    say "Without --apply or --undo it shows what is there and what is wanted, and changes nothing."
    say
    say "${help:?each knob has its help}"
    say
    say "  --apply         change it; what was there is kept in the state folder"
    say "  --undo          put back what was there before the first --apply"
    say "  --state FOLDER  where that is kept (default /var/lib/headrace/tuning)"
    say "  --root FOLDER   work on the proc, sys and etc below this folder (for tests)"
    say
    say "Exit codes: 0 done or shown, 1 something could not be changed, 2 wrong arguments."
}

# own_option NAME VALUE: a knob with options of its own defines this anew. It sets `used` to the count of words it took.
own_option() { used=0; }

read_arguments() {
    local used
    while [ $# -gt 0 ]; do
        case $1 in
            --apply | --undo)
                [ "$mode" = show ] || wrong_argument "--apply and --undo exclude each other"
                mode=${1#--}
                shift
                ;;
            --state | --root | --nic | --cores)
                [ $# -ge 2 ] || wrong_argument "$1 needs a value"
                case $1 in
                    --state) state=$2 ;;
                    --root) root=${2%/} ;;
                    --nic) nics+=("$2") ;;
                    --cores) cores=$2 ;;
                esac
                shift 2
                ;;
            -h | --help)
                usage
                exit 0
                ;;
            *)
                used=0
                own_option "$@"
                [ "$used" -gt 0 ] || wrong_argument "unknown argument $1"
                shift "$used"
                ;;
        esac
    done
    if [ -n "$cores" ]; then
        [[ $cores =~ ^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$ ]] || wrong_argument "--cores takes a list like 0-3,8, not $cores"
    fi
    local nic
    for nic in "${nics[@]}"; do
        [[ $nic =~ ^[A-Za-z0-9._@-]+$ && $nic != . && $nic != .. ]] || wrong_argument "--nic takes the name of a network device, not $nic"
    done
    : "${state:=$root/var/lib/headrace/tuning}"
    undo_file=$state/$knob.undo
}

# tune ARGUMENTS: the whole life of a script.
tune() {
    read_arguments "$@"
    case $mode in
        undo) undo ;;
        *)
            [ "$mode" = show ] || begin_apply
            plan
            finish
            ;;
    esac
}

finish() {
    if [ "$failed_count" -gt 0 ]; then
        give_up "$failed_count could not be changed"
    elif [ "$wanted_count" -eq 0 ]; then
        say "nothing to change"
    elif [ "$mode" = show ]; then
        say "$wanted_count to change: tuning/$knob --apply"
    else
        say "$wanted_count changed; tuning/$knob --undo puts it back"
    fi
}

# --- reading ---

# value PATH: what a file of /proc or /sys holds. Of a choice like `always [madvise] never` the one in force.
value() {
    local text
    text=$(tr '\t\n' '  ' 2>/dev/null <"$root$1") || return 1
    text=${text%"${text##*[! ]}"}
    if [[ $text =~ \[([^]]*)\] ]]; then text=${BASH_REMATCH[1]}; fi
    printf '%s' "$text"
}

# same PATH NOW WANTED: whether two values mean the same. Masks of cores are written in several ways.
same() {
    [ "$2" = "$3" ] && return 0
    case $1 in
        */rps_cpus | */xps_cpus) [ "$(plain_mask "$2")" = "$(plain_mask "$3")" ] ;;
        *) return 1 ;;
    esac
}

plain_mask() {
    local mask=${1//,/}
    mask=${mask#"${mask%%[!0]*}"}
    printf '%s' "${mask:-0}"
}

# each_core LIST: `0-3,8` one a line.
each_core() {
    local part
    for part in ${1//,/ }; do seq "${part%-*}" "${part#*-}"; done
}

# The cores a knob works on: --cores, or all that are switched on.
chosen_cores() {
    local list=$cores
    [ -n "$list" ] || list=$(value /sys/devices/system/cpu/online) || give_up "no $root/sys/devices/system/cpu/online here: name the cores with --cores"
    each_core "$list"
}

# mask_of CORE...: as the kernel writes it, in groups of 32 bits.
mask_of() {
    local core groups=() index most=0 text=
    for core in "$@"; do
        index=$((core / 32))
        groups[index]=$((${groups[index]:-0} | 1 << (core % 32)))
        if [ "$index" -gt "$most" ]; then most=$index; fi
    done
    for ((index = most; index >= 0; index--)); do
        if [ "$index" -eq "$most" ]; then
            printf -v text '%x' "${groups[index]:-0}"
        else
            printf -v text '%s,%08x' "$text" "${groups[index]:-0}"
        fi
    done
    printf '%s' "$text"
}

# The network devices a knob works on: --nic, or every card (what has a device behind it).
chosen_nics() {
    local folder
    if [ "${#nics[@]}" -gt 0 ]; then
        local nic
        for nic in "${nics[@]}"; do
            [ -d "$root/sys/class/net/$nic" ] || give_up "no network device $nic here; there is: $(cd "$root/sys/class/net" && echo ./* | sed 's,\./,,g')"
        done
        printf '%s\n' "${nics[@]}"
        return
    fi
    for folder in "$root"/sys/class/net/*; do
        if [ -e "$folder/device" ]; then basename "$folder"; fi
    done
}

# ethtool_of NIC OPTION: what ethtool says, or why not.
ethtool_of() {
    command -v ethtool >/dev/null || give_up "ethtool is not here; install it (Debian: apt-get install ethtool)"
    ethtool "$2" "$1" 2>/dev/null
}

# --- changing ---

# want PATH VALUE [NOTE]: shows, and with --apply changes, one value.
want() {
    local path=$1 wanted=$2 note=${3:+  ($3)} now
    if ! now=$(value "$path"); then
        say "  $path: not here$note"
        return 0
    fi
    if same "$path" "$now" "$wanted"; then
        say "  $path: $now, as wanted"
        return 0
    fi
    wanted_count=$((wanted_count + 1))
    say "  $path: $now -> $wanted$note"
    if [ "$mode" = apply ]; then change "$path" "$now" "$wanted"; fi
}

# want_least PATH VALUE and want_most PATH VALUE: leave what is better already.
want_least() {
    local now
    now=$(value "$1") || now=
    if [[ $now =~ ^[0-9]+$ && $now -ge $2 ]]; then say "  $1: $now, $2 or more as wanted"; else want "$@"; fi
}
want_most() {
    local now
    now=$(value "$1") || now=
    if [[ $now =~ ^[0-9]+$ && $now -le $2 ]]; then say "  $1: $now, $2 or less as wanted"; else want "$@"; fi
}

change() {
    local path=$1 old=$2 new=$3 after
    record value "$path" "$old"
    if ! write "$path" "$new"; then
        complain "$path: the kernel refuses $new"
        failed_count=$((failed_count + 1))
        return 0
    fi
    after=$(value "$path") || after=
    if ! same "$path" "$after" "$new"; then
        complain "$path: $new was written and $after is there"
        failed_count=$((failed_count + 1))
    fi
}

write() { printf '%s\n' "$2" 2>/dev/null >"$root$1"; }

# want_command SHOWN UNDO... -- DO...: for what is set by a command; the caller has found that it is not as wanted.
want_command() {
    local shown=$1 back=()
    shift
    while [ "$1" != -- ]; do
        back+=("$1")
        shift
    done
    shift
    wanted_count=$((wanted_count + 1))
    say "  $shown"
    if [ "$mode" != apply ]; then return 0; fi
    record run "${back[@]}"
    if ! "$@"; then
        complain "refused: $*"
        failed_count=$((failed_count + 1))
    fi
}

# --- the state ---

boot_id() { cat "$root/proc/sys/kernel/random/boot_id" 2>/dev/null || printf 'unknown'; }

begin_apply() {
    mkdir -p "$state" || give_up "cannot make $state, where undoing is remembered: run as root, or name another folder with --state"
    if [ -e "$undo_file" ] && stale; then
        say "$undo_file is from before the last restart, which undid it: begun anew"
        rm -f "$undo_file"
    fi
    if [ -e "$undo_file" ]; then return 0; fi
    printf 'boot\t%s\n' "$(boot_id)" >"$undo_file" || give_up "cannot write $undo_file: run as root, or name another folder with --state"
}

stale() {
    [ "$forgets" = yes ] && [ "$(head -n 1 "$undo_file")" != "$(printf 'boot\t%s' "$(boot_id)")" ]
}

# record KIND FIELD...: once for each path (for a command: for each device and option it names).
record() {
    local line key IFS=$'\t'
    line="$*"
    key=$line
    case $1 in
        value) key="$1"$'\t'"$2"$'\t' ;;
        run) key="$1"$'\t'"$2"$'\t'"$3"$'\t'"$4"$'\t' ;;
    esac
    local known
    while IFS= read -r known; do
        if [[ "$known"$'\t' == "$key"* ]]; then return 0; fi
    done <"$undo_file"
    printf '%s\n' "$line" >>"$undo_file" || give_up "cannot write $undo_file; nothing further is changed"
}

undo() {
    if [ ! -e "$undo_file" ]; then
        say "nothing to undo: no $undo_file"
        return 0
    fi
    if stale; then
        say "nothing to undo: $undo_file is from before the last restart, which undid it"
        rm -f "$undo_file"
        return 0
    fi
    local lines index fields count=0
    mapfile -t lines <"$undo_file"
    # The last change first.
    for ((index = ${#lines[@]} - 1; index > 0; index--)); do
        IFS=$'\t' read -r -a fields <<<"${lines[index]}"
        undo_one "${fields[@]}"
        count=$((count + 1))
    done
    after_undo
    # What could not be put back stays written down.
    [ "$failed_count" -eq 0 ] || give_up "$failed_count could not be put back; $undo_file is kept"
    rm -f "$undo_file"
    say "$count put back"
}

# A knob that must tell somebody defines this anew.
after_undo() { :; }

undo_one() {
    local kind=$1 now
    shift
    case $kind in
        value)
            now=$(value "$1") || now=
            say "  $1: $now -> ${2:-}"
            if same "$1" "$now" "${2:-}" || write "$1" "${2:-}"; then return 0; fi
            ;;
        run)
            say "  $*"
            # Whoever can write the state folder must not thereby run what he likes.
            if [ "$1" = ethtool ] && "$@"; then return 0; fi
            ;;
        file)
            say "  $1: removed"
            if rm -f "$root$1"; then return 0; fi
            ;;
        folder)
            # Somebody else's files keep it.
            rmdir "$root$1" 2>/dev/null || say "  $1: not empty, left"
            return 0
            ;;
    esac
    complain "cannot undo: $kind $*"
    failed_count=$((failed_count + 1))
}
