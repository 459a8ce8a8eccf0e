//! What the machine monitor gets: the words that start it through its jailer, and the document that describes the
//! machine. All of it is made from numbers and fixed names; no path of this machine is in the document, because the
//! monitor sees its jail only.
//!
//! The machine has a kernel, a root that cannot be changed, and one socket to the helper. It has no network device, no
//! second disk, and nothing of this machine's devices.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use dromia_contracts::sandbox::ProcessLimits;
use serde_json::{Value, json};

use crate::GUEST_NAME;
use crate::firecracker::FirecrackerParts;

/// What the machine is called; each has a jail of its own.
pub(super) const ID: &str = "vm";

/// The names of what lies in the jail.
pub(super) const KERNEL: &str = "kernel";
pub(super) const ROOT: &str = "root.img";
pub(super) const DOCUMENT: &str = "vm.json";

/// The socket of the machine, and the port to which the guest connects.
const SOCKET: &str = "v.sock";
pub(crate) const PORT: u32 = 1024;

/// The number of the guest's side of the socket: the first one that is not reserved.
const GUEST: u32 = 3;

/// Memory of the guest's kernel and of the guest's first process, beside that of the program and of its trees.
const OURS_BYTES: u64 = 192 << 20;

/// The most processors of a machine.
const PROCESSORS_MAX: u64 = 8;

/// The command line of the kernel: no hardware is looked for, its messages go to the monitor's output and are few, its
/// end is the monitor's end, and this program is its first process.
const WORDS: &str = "console=ttyS0 quiet loglevel=4 reboot=k panic=-1 pci=off i8042.noaux i8042.nomux \
                     i8042.nopnp i8042.dumbkbd random.trust_cpu=on";

/// Where the monitor looks for the listener of the guest's port.
pub(super) fn listener_path() -> String {
    format!("{SOCKET}_{PORT}")
}

/// Describes the machine for a program with these limits, whose trees have so many bytes beside the workspace.
pub(super) fn machine_document(limits: &ProcessLimits, shown_bytes: u64) -> Value {
    json!({
        "boot-source": {
            "kernel_image_path": format!("/{KERNEL}"),
            "boot_args": format!("{WORDS} init={GUEST_NAME}"),
        },
        "drives": [{
            "drive_id": "root",
            "path_on_host": format!("/{ROOT}"),
            "is_root_device": true,
            "is_read_only": true,
        }],
        "machine-config": {
            "vcpu_count": processor_count(limits),
            "mem_size_mib": memory_mib(limits, shown_bytes),
        },
        "vsock": {"guest_cid": GUEST, "uds_path": format!("/{SOCKET}")},
    })
}

/// As many as its processor time fits into its time.
fn processor_count(limits: &ProcessLimits) -> u64 {
    limits.cpu_ms.div_ceil(limits.wall_ms.max(1)).clamp(1, PROCESSORS_MAX)
}

/// What the program may have, its workspace, which lies in memory, and what is shown to it.
fn memory_mib(limits: &ProcessLimits, shown_bytes: u64) -> u64 {
    let parts = [limits.memory_bytes, limits.disk_bytes, shown_bytes, OURS_BYTES];
    parts.into_iter().fold(0, u64::saturating_add).div_ceil(1 << 20)
}

/// The directory of the jail, below the one that the jailer is given.
pub(super) fn jail_path(base: &Path, binary: &Path) -> PathBuf {
    base.join(binary.file_name().unwrap_or_default()).join(ID).join("root")
}

/// The words after the jailer's own name.
pub(super) fn jailer_arguments(monitor: &FirecrackerParts, base: &Path) -> Vec<OsString> {
    let (uid, document) = (monitor.uid.to_string(), format!("/{DOCUMENT}"));
    [
        OsStr::new("--id"),
        OsStr::new(ID),
        OsStr::new("--exec-file"),
        monitor.binary.as_os_str(),
        OsStr::new("--uid"),
        OsStr::new(&uid),
        OsStr::new("--gid"),
        OsStr::new(&uid),
        OsStr::new("--chroot-base-dir"),
        base.as_os_str(),
        OsStr::new("--"),
        OsStr::new("--no-api"),
        OsStr::new("--config-file"),
        OsStr::new(&document),
    ]
    .map(OsStr::to_owned)
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn monitor() -> FirecrackerParts {
        FirecrackerParts {
            binary: "/opt/fc/firecracker".into(),
            jailer: "/opt/fc/jailer".into(),
            kernel: "/opt/fc/vmlinux".into(),
            rootfs: "/opt/fc/root.ext4".into(),
            uid: 60_999,
        }
    }

    #[test]
    fn the_document_names_one_disk_one_socket_and_no_network() {
        let limits = ProcessLimits { cpu_ms: 30_000, wall_ms: 10_000, ..ProcessLimits::DEFAULT };
        let told = machine_document(&limits, 5 << 20);
        let expected = json!({
            "boot-source": {
                "kernel_image_path": "/kernel",
                "boot_args": "console=ttyS0 quiet loglevel=4 reboot=k panic=-1 pci=off \
                              i8042.noaux i8042.nomux i8042.nopnp i8042.dumbkbd random.trust_cpu=on \
                              init=/sbin/dromia-guest",
            },
            "drives": [{
                "drive_id": "root",
                "path_on_host": "/root.img",
                "is_root_device": true,
                "is_read_only": true,
            }],
            "machine-config": {"vcpu_count": 3, "mem_size_mib": 1024 + 1024 + 5 + 192},
            "vsock": {"guest_cid": 3, "uds_path": "/v.sock"},
        });
        assert_eq!(told, expected);
        assert_eq!(listener_path(), "v.sock_1024");
    }

    #[test]
    fn processors_and_memory_are_what_the_limits_come_to() {
        for (cpu_ms, wall_ms, processors_are) in
            [(1, 60_000, 1), (60_000, 60_000, 1), (60_001, 60_000, 2), (u64::MAX, 1, 8), (9, 0, 8)]
        {
            let limits = ProcessLimits { cpu_ms, wall_ms, ..ProcessLimits::DEFAULT };
            assert_eq!(processor_count(&limits), processors_are, "{cpu_ms} in {wall_ms}");
        }
        for (memory_bytes, disk_bytes, shown_bytes, mib) in [
            (1 << 20, 1 << 20, 0, 194),
            ((1 << 20) + 1, 1 << 20, 0, 195),
            (0, 0, 1, 193),
            (u64::MAX, 1, 1, u64::MAX.div_ceil(1 << 20)),
        ] {
            let limits = ProcessLimits { memory_bytes, disk_bytes, ..ProcessLimits::DEFAULT };
            assert_eq!(memory_mib(&limits, shown_bytes), mib);
        }
    }

    #[test]
    fn the_jailer_gets_its_arguments_and_the_monitor_one_document() {
        let monitor = monitor();
        let words = jailer_arguments(&monitor, Path::new("/mnt"));
        let words: Vec<_> = words.iter().filter_map(|word| word.to_str()).collect();
        assert_eq!(
            words.join(" "),
            "--id vm --exec-file /opt/fc/firecracker --uid 60999 --gid 60999 --chroot-base-dir /mnt -- \
             --no-api --config-file /vm.json"
        );
        assert_eq!(DOCUMENT, "vm.json");
        assert_eq!(jail_path(Path::new("/mnt"), &monitor.binary), Path::new("/mnt/firecracker/vm/root"));
    }
}
