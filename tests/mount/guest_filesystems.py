#!/usr/bin/env python3
"""ext4, XFS and btrfs on a loop device over a volume: filled, trimmed, checked, read back."""
import os
import random

from cairn_mount import Mount, loop_device, main, mounted
from checks import check, check_same_tree, run, tree_hashes, wait_until

MIB = 2**20
LARGE_MIB = 128  # deleted again: this much has to come back on the host


def fill(root, seed):
    """A large random file, and a tree of small ones of odd sizes."""
    rng = random.Random(seed)
    with open(os.path.join(root, "large"), "wb") as file:
        for _ in range(LARGE_MIB):
            file.write(rng.randbytes(MIB))
        os.fsync(file.fileno())
    for number in range(600):
        folder = os.path.join(root, f"tree/{number % 7}/{number % 31}")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"file{number}"), "wb") as file:
            file.write(rng.randbytes(rng.randrange(40000)))
    os.sync()


def trim(mount, volume, guest):
    """Deletes the large file and trims; both the volume and the store must shrink."""
    held_before = os.stat(volume).st_blocks * 512
    store_before = mount.held_by_store()
    os.unlink(os.path.join(guest, "large"))
    run("sync", "-f", guest)
    wanted = LARGE_MIB * MIB * 9 // 10
    # The loop driver punches in the background: the space comes back a moment later.

    def gave_back():
        # XFS frees the extents of a deleted file in the background and passes over those that its
        # log still holds: trim again until it has.
        run("fstrim", guest)
        return held_before - os.stat(volume).st_blocks * 512 >= wanted

    wait_until(gave_back, 120,
               f"fstrim of {LARGE_MIB} MiB lowers st_blocks of the volume, at first "
               f"{held_before >> 20} MiB")
    wait_until(lambda: store_before - mount.held_by_store() >= wanted, 120,
               f"fstrim of {LARGE_MIB} MiB lowers what the store's files hold, at first "
               f"{store_before >> 20} MiB")


def guest_filesystem(bin_folder, make, verify, seed):
    with Mount(bin_folder) as mount:
        volume = mount.path("vm1", "disk.img")
        guest = os.path.join(mount.folder, "guest")
        os.mkdir(mount.path("vm1"))
        run("truncate", "-s", "4G", volume)
        with loop_device(volume) as device:
            run(*make, device)
            with mounted(device, guest):
                fill(guest, seed)
                wanted = tree_hashes(guest)
            with mounted(device, guest):
                check_same_tree(tree_hashes(guest), wanted, "after a remount of the guest")
                trim(mount, volume, guest)
                del wanted["large"]
            run(*verify, device)
        mount.remount()
        with loop_device(volume) as device:
            run(*verify, device)
            with mounted(device, guest, "-o", "ro"):
                check_same_tree(tree_hashes(guest), wanted, "after a remount of Cairn")
        mount.down()
        mount.fsck()
        check(os.listdir(mount.mountpoint) == [], "the mountpoint shows files when unmounted")


def ext4(bin_folder):
    guest_filesystem(bin_folder, ("mkfs.ext4", "-q", "-F"), ("e2fsck", "-fn"), 1)


def xfs(bin_folder):
    guest_filesystem(bin_folder, ("mkfs.xfs", "-q", "-f"), ("xfs_repair", "-n"), 2)


def btrfs(bin_folder):
    guest_filesystem(bin_folder, ("mkfs.btrfs", "-q", "-f"), ("btrfs", "check"), 3)


if __name__ == "__main__":
    main(ext4, xfs, btrfs)
