"""Runs fio and reduces its JSON to one figure."""
import json
import subprocess

# Threads instead of processes: ending fio by its process id then ends all of it.
COMMON = ("--output-format=json", "--name=job", "--thread", "--fallocate=none",
          "--allow_file_create=0")


class FioError(Exception):
    """fio failed on this file; the text is its own first error."""


def run(path, size_mib, options, seconds=0):
    """Runs one job on `path`; returns the parsed job. Raises FioError."""
    command = ["fio", *COMMON, f"--filename={path}", f"--size={size_mib}M"]
    command += [f"--{key}={value}" for key, value in options.items()]
    if seconds:
        command += [f"--runtime={seconds}", "--time_based"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=seconds + 900)
    start = done.stdout.find("{")
    if done.returncode != 0 or start < 0:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        named = [line for line in lines if "rror" in line or "fio:" in line]
        raise FioError(f"fio exited {done.returncode}: {(named or lines or ['no output'])[0]}")
    job = json.loads(done.stdout[start:])["jobs"][0]
    if job["error"]:
        raise FioError(f"fio reports error {job['error']} on {path}")
    return job


def figure(job, unit):
    """IOPS, or MiB/s, of reads and writes together."""
    if unit == "iops":
        return job["read"]["iops"] + job["write"]["iops"]
    return (job["read"]["bw_bytes"] + job["write"]["bw_bytes"]) / 2**20


def fill(path, size_mib, offset_mib=0):
    """Writes size_mib from the offset on once, so that later jobs find existing blocks."""
    run(path, size_mib, {"rw": "write", "bs": "1M", "ioengine": "psync", "end_fsync": 1,
                         "offset": f"{offset_mib}M"})
