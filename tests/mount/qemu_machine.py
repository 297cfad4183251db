"""What the tests with a virtual machine share: Debian's kernel, an initramfs, and QEMU itself.

QEMU's own interpreter runs the guest, since KVM is not there everywhere. The guest loads the
modules that /modules of its initramfs names, in that order.
"""
import contextlib
import glob
import os
import re
import stat
import subprocess
import sys
import tempfile
import threading

import cairn_mount
from checks import check, run, wait_until

BOOT_SECONDS = 240
KERNEL_PACKAGE = "linux-image-cloud-amd64"
DISK_MODULES = ("virtio_pci", "virtio_blk")


def unpack_kernel(bin_folder, folder):
    """Debian's kernel below `folder`. Unpacked and not installed, which would want an initramfs."""
    cache = os.path.join(os.path.dirname(bin_folder), "packages")
    if not glob.glob(os.path.join(cache, "linux-image-*.deb")):
        os.makedirs(cache, exist_ok=True)
        depends = run("apt-cache", "depends", KERNEL_PACKAGE, ok=False).stdout
        if "linux-image-" not in depends:  # a machine that has never asked what packages there are
            run("timeout", "120", "apt-get", "-q", "update", ok=False, timeout=180)
            depends = run("apt-cache", "depends", KERNEL_PACKAGE, ok=False).stdout
        names = re.findall(r"Depends: (linux-image-\S+)", depends)
        with tempfile.TemporaryDirectory(dir=cache) as fetched:
            os.chmod(fetched, 0o755)
            done = run("timeout", "120", "apt-get", "-q", "download", *names[:1], cwd=fetched,
                       ok=False, timeout=180)
            if done.returncode == 0:
                for path in glob.glob(os.path.join(fetched, "*.deb")):
                    os.rename(path, os.path.join(cache, os.path.basename(path)))
        if not names or done.returncode != 0:
            print(f"skipped: {KERNEL_PACKAGE} cannot be downloaded: {done.stderr.strip()[:200]}")
            sys.exit(cairn_mount.SKIP)
    run("dpkg-deb", "-x", sorted(glob.glob(os.path.join(cache, "linux-image-*.deb")))[-1], folder)
    return glob.glob(os.path.join(folder, "boot", "vmlinuz-*"))[0]


def cpio(entries):
    """An archive in the kernel's "newc" form of (name, mode, content, device number)."""
    parts = []
    for number, (name, mode, content, device) in enumerate([*entries, ("TRAILER!!!", 0, b"", 0)]):
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, os.major(device), os.minor(device),
                  len(name) + 1, 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        for part in (header, content):
            parts.append(part + bytes(-len(part) % 4))
    return b"".join(parts)


def program(name, content):
    return (name, stat.S_IFREG | 0o755, content, 0)


def plain_file(name, content):
    return (name, stat.S_IFREG | 0o644, content, 0)


def folder_entry(name):
    return (name, stat.S_IFDIR | 0o755, b"", 0)


def same_name(name):
    # A file's name may have a dash where the module's has an underscore.
    return name.replace("-", "_")


def module_files(kernel_folder):
    """{name: path} of the kernel's modules, and the names of what is built into it."""
    modules = {}
    built_in = set()
    for folder, _, names in os.walk(os.path.join(kernel_folder, "lib", "modules")):
        for name in names:
            path = os.path.join(folder, name)
            if name.endswith(".ko"):
                modules[same_name(name[:-len(".ko")])] = path
            elif name == "modules.builtin":
                with open(path, encoding="ascii") as file:
                    built_in.update(same_name(os.path.basename(line.strip())[:-len(".ko")])
                                    for line in file)
    return modules, built_in


def with_what_they_need(kernel_folder, wanted):
    """{name: content} of modules, each behind those that it depends on."""
    files, built_in = module_files(kernel_folder)
    modules = {}

    def add(name):
        if name in modules or name in built_in:
            return
        check(name in files, f"the kernel has no module {name}")
        with open(files[name], "rb") as file:
            content = file.read()
        needed = re.search(rb"\0depends=([^\0]*)\0", content)
        for other in needed[1].decode().split(",") if needed and needed[1] else ():
            add(same_name(other))
        modules[name] = content
    for name in wanted:
        add(name)
    return modules


def make_initramfs(kernel_folder, path, modules, entries):
    """An initramfs at `path` with the modules and what they need, and with `entries`."""
    packed = with_what_they_need(kernel_folder, modules)
    every = [folder_entry("dev"), ("dev/console", stat.S_IFCHR | 0o600, b"", os.makedev(5, 1)),
             plain_file("modules", "".join(f"{name}\n" for name in packed).encode()),
             *(plain_file(f"{name}.ko", content) for name, content in packed.items()), *entries]
    with open(path, "wb") as file:
        file.write(cpio(every))


class Guest:
    """The machine and what it says on its console. Killed by who started it; see `running`."""

    def __init__(self, kernel, initramfs, disks, append=""):
        """`disks`: (path, how QEMU does asynchronous I/O), all without the host's page cache."""
        command = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot",
                   "-accel", "tcg", "-m", "256", "-serial", "stdio", "-kernel", kernel,
                   "-initrd", initramfs, "-append", f"console=ttyS0 quiet panic=-1 {append}"]
        for path, engine in disks:
            command += ["-drive", f"file={path},format=raw,if=virtio,cache=none,aio={engine},"
                                  "werror=report,rerror=report"]
        self.lines = []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, errors="replace")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.strip())
            self.heard(line)

    def heard(self, line):
        """Called in a thread of its own for each line of the console."""

    def said(self, word):
        return [line for line in self.lines if line.startswith(word)]

    def check_well(self):
        check(not self.said("bad") and "I/O error" not in "".join(self.lines),
              f"the guest's console: {self.lines[-6:]}")

    def check_runs(self):
        self.check_well()
        check(self.process.poll() is None, f"QEMU ended: {self.lines[-6:]}")

    def wait_said(self, word, what):
        def done():
            self.check_runs()
            return self.said(word)
        wait_until(done, BOOT_SECONDS, what)

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def wait_end(self, seconds=None):
        """Until the guest has switched itself off."""
        code = self.process.wait(seconds)
        self._reader.join()
        check(code == 0, f"QEMU exited {code}: {self.lines[-6:]}")

    def check_ended_well(self, seconds=None):
        self.wait_end(seconds)
        self.check_well()
        check(self.said("end"), f"the guest ended early: {self.lines[-6:]}")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def running(guest):
    """The guest for the block; it is gone afterwards."""
    with cairn_mount.undo(guest.kill):
        yield guest
