"""A worker to draw with: one that runs already, or one started here on a free port and stopped at the end."""
import io
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request

from PIL import Image

START_SECONDS = 60
PICTURE_SECONDS = 300


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Worker:
    def __init__(self, url, program, model):
        self.process = None
        self.url = url
        if url is None:
            port = free_port()
            self.url = f"http://127.0.0.1:{port}"
            self.process = subprocess.Popen([program, "--model", model, "--port", str(port), "--bind-addr", "127.0.0.1"],
                                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait(START_SECONDS, lambda: self.get("/ready"))

    def get(self, path):
        """The answer's body, or None while the worker is not there or not ready."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code == 503:
                return None
            raise
        except urllib.error.URLError:
            return None

    def wait(self, seconds, ready, pause=0.05):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answer = ready()
            if answer:
                return answer
            if self.process and self.process.poll() is not None:
                raise SystemExit(f"the worker ended with status {self.process.returncode}")
            time.sleep(pause)
        raise SystemExit(f"the worker at {self.url} did not answer within {seconds} s")

    def finished(self, job):
        state = json.loads(self.get(f"/v1/jobs/{job}"))
        if state["state"] in ("failed", "cancelled"):
            raise SystemExit(f"job {job}: {state}")
        return state["state"] == "completed"

    def draw(self, prompt, seed, **more):
        """The picture that the model's defaults give, unless `more` says otherwise."""
        body = json.dumps({"prompt": prompt, "seed": seed, **more}).encode()
        request = urllib.request.Request(self.url + "/v1/jobs", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            job = json.load(answer)["job_id"]
        self.wait(PICTURE_SECONDS, lambda: self.finished(job))
        return Image.open(io.BytesIO(self.get(f"/v1/jobs/{job}/image")))

    def draw_all(self, prompts, first_seed):
        for i, prompt in enumerate(prompts):
            yield self.draw(prompt, first_seed + i)

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
