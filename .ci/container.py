"""A container that runc runs from an unpacked image, with the restrictions that a platform sets.

The restrictions: the user of the image, a read-only root, no capabilities, no new privileges, and a network
of its own.
"""

import json
import pathlib
import signal
import subprocess
import time

START_TIMEOUT = 20
STOP_TIMEOUT = 40


class Container:
    """Use it in a with statement. At the end the container is killed, if it still runs, and deleted."""

    def __init__(self, bundle, name, args=(), env=(), mounts=()):
        """args replace CMD; env has `NAME=value`; mounts has pairs of a path here and a path inside."""
        self.bundle, self.name = pathlib.Path(bundle), f"image-check-{name}"
        self.runc = ["runc", "--root", str(self.bundle / "runc")]
        self.log = self.bundle / f"{name}.log"
        self.configure(args, env, mounts)

    def configure(self, args, env, mounts):
        unpacked = self.bundle / "config.unpacked.json"
        path = self.bundle / "config.json"
        if not unpacked.exists():
            path.rename(unpacked)
        config = json.loads(unpacked.read_text())
        process = config["process"]
        process["terminal"] = False
        process["noNewPrivileges"] = True
        process["capabilities"] = {kind: [] for kind in process["capabilities"]}
        if args:
            process["args"] = process["args"][:1] + list(args)
        names = {variable.split("=", 1)[0] for variable in env}
        process["env"] = [variable for variable in process["env"] if variable.split("=", 1)[0] not in names]
        process["env"] += env
        config["root"]["readonly"] = True
        for outside, inside, *options in mounts:
            config["mounts"].append({
                "destination": inside,
                "source": str(outside),
                "type": "bind",
                "options": ["bind", "nosuid", "nodev", *(options or ["ro"])],
            })
        path.write_text(json.dumps(config))

    def __enter__(self):
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*self.runc, "run", "--bundle", str(self.bundle), self.name],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        return self

    def __exit__(self, failure, *_):
        if self.process.poll() is None:
            subprocess.run([*self.runc, "kill", self.name, "KILL"], check=False)
        try:
            self.process.wait(START_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
        subprocess.run([*self.runc, "delete", "--force", self.name], check=False, stderr=subprocess.DEVNULL)
        if failure:
            print(self.log.read_text(errors="replace"))

    def execute(self, *command, env=()):
        """Runs a command in the container, and returns its exit code and its output."""
        variables = [word for variable in env for word in ("--env", variable)]
        done = subprocess.run(
            [*self.runc, "exec", *variables, self.name, *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=START_TIMEOUT,
        )
        return done.returncode, done.stdout + done.stderr

    def wait_until(self, *command, env=()):
        """Runs a command again and again until its exit code is 0."""
        end = time.monotonic() + START_TIMEOUT
        while True:
            code, output = self.execute(*command, env=env)
            if code == 0:
                return output
            assert self.process.poll() is None, f"{self.name} has ended"
            assert time.monotonic() < end, f"{self.name}: {' '.join(command)} has no success: {output}"
            time.sleep(0.1)

    def pid(self):
        """The process of the container, as this machine sees it."""
        state = subprocess.run([*self.runc, "state", self.name], check=True, capture_output=True)
        return json.loads(state.stdout)["pid"]

    def ended(self):
        """Waits for the end of the container, and returns its exit code and its log."""
        return self.process.wait(START_TIMEOUT), self.log.read_text(errors="replace")

    def terminate(self):
        """Sends SIGTERM, and returns the exit code."""
        subprocess.run([*self.runc, "kill", self.name, str(int(signal.SIGTERM))], check=True)
        return self.process.wait(STOP_TIMEOUT)
