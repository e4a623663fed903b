# The life of the package on a fresh Debian: `install` up to an upgrade, `remove` the rest. Ends with the first thing that is not
# as it should be.
set -eu
. /root/words.sh
package=/root/ml-ids.deb

if [ "$1" = install ]; then
    echo 'install'
    check 'apt installs it with what it depends on' apt-get install --yes --no-install-recommends "$package"
    check 'its files are as packaged' dpkg --verify ml-ids
    check 'there is a user that nobody can log in as' sh -c 'getent passwd ml-ids | grep -E ":/nonexistent:/usr/sbin/nologin$"'
    for folder in lib log cache; do
        [ "$(stat -c '%U %a' /var/$folder/ml-ids)" = 'ml-ids 750' ] || fail "/var/$folder/ml-ids is not the user's alone"
    done
    dpkg -L ml-ids | while read -r path; do [ -d "$path" ] || echo "$path"; done >/root/files
    gone /etc/systemd/system/multi-user.target.wants/ml-ids.service

    echo 'use'
    check 'it says its version' ml-ids --version
    check 'its configuration is in order' ml-ids config check
    check 'the configuration that is installed is read' sh -c 'ml-ids config show | grep -F /var/log/ml-ids'
    check 'it judges a capture' sh -c 'ml-ids score --format csv /root/capture.pcap | grep -c BENIGN'
    check 'the model beside it fits' ml-ids model check /usr/share/ml-ids/default.onnx
    if ml-ids demo --help >/dev/null 2>&1; then
        check 'the demo runs' ml-ids demo --once --speed max
    fi
    check 'completions are bash' bash -n /usr/share/bash-completion/completions/ml-ids
    check 'the list of parts is there' sh -c 'zcat /usr/share/doc/ml-ids/ml-ids.cdx.json.gz | grep -q CycloneDX'

    echo 'upgrade'
    echo '# changed by hand' >>/etc/ml-ids/config.toml
    touch /var/lib/ml-ids/kept
    check 'the same version installs over itself' apt-get install --yes --reinstall "$package"
    check 'a changed configuration stays' grep -q 'changed by hand' /etc/ml-ids/config.toml
    [ -e /var/lib/ml-ids/kept ] || fail 'an upgrade loses state'

    # For the boot that follows: the service, and what looks at it.
    echo 'CIC_INTERFACE=lo' >/etc/default/ml-ids
    check 'it is enabled' systemctl enable ml-ids
    cat >/etc/systemd/system/exercise.service <<'UNIT'
[Unit]
After=ml-ids.service
[Service]
Type=oneshot
StandardOutput=file:/root/service.out
StandardError=inherit
ExecStart=/bin/sh /root/service.sh
ExecStopPost=/bin/sh -c "journalctl --no-pager --unit ml-ids >/root/journal.out 2>&1; systemctl --no-block exit 0"
[Install]
WantedBy=multi-user.target
UNIT
    check 'so is the exercise' systemctl enable exercise
    exit 0
fi

echo 'remove'
rm /etc/default/ml-ids
check 'it is removed' apt-get remove --yes ml-ids
gone /usr/bin/ml-ids
[ -e /etc/ml-ids/config.toml ] || fail 'removal loses the configuration'
[ -e /var/lib/ml-ids/kept ] || fail 'removal loses state'

echo 'purge'
check 'it is purged' apt-get purge --yes ml-ids
while read -r path; do gone "$path"; done </root/files
for path in /etc/ml-ids /var/lib/ml-ids /var/log/ml-ids /var/cache/ml-ids \
    /etc/systemd/system/multi-user.target.wants/ml-ids.service; do
    gone "$path"
done
echo 'nothing is left but the locked user'
