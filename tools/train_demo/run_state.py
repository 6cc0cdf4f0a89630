"""What every stage shares: a folder, a budget of minutes, checkpoints to resume from, a log line now and then."""
import os
import random
import time

from PIL import Image
import torch


class Run:
    def __init__(self, folder, device):
        os.makedirs(folder, exist_ok=True)
        self.folder, self.device = folder, device

    def path(self, name):
        return os.path.join(self.folder, name)

    def stage(self, name, minutes, seed, **parts):
        return Stage(self, name, minutes, seed, parts)

    def sheet(self, name, pictures, columns=8):
        """pictures [n, 3, h, w] in -1..1"""
        n, _, h, w = pictures.shape
        pixels = ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        sheet = Image.new("RGB", (columns * w, -(-n // columns) * h))
        for i, p in enumerate(pixels):
            sheet.paste(Image.fromarray(p), (i % columns * w, i // columns * h))
        sheet.save(self.path(name + ".png"))


class Stage:
    """Counts time spent, not steps: the same command gives a usable model on any machine, only a better one on a faster."""

    def __init__(self, run, name, minutes, seed, parts):
        self.run, self.name, self.seconds, self.parts = run, name, minutes * 60, parts
        self.step, self.spent, self.pictures = 0, 0.0, 0
        self.file = run.path(name + ".pt")
        if os.path.exists(self.file):
            saved = torch.load(self.file, map_location=run.device)
            for key, part in parts.items():
                part.load_state_dict(saved[key])
            self.step, self.spent, self.pictures = saved["step"], saved["spent"], saved["pictures"]
            print(f"{name}: resumed at step {self.step}, {self.spent / 60:.1f} min", flush=True)
        self.losses, self.last_report = [], self.spent
        # A resumed stage goes on with fresh draws instead of those of its beginning.
        self.rng = random.Random(seed + self.step)
        torch.manual_seed(seed + self.step)

    def clock(self):
        """Seconds of this process's own computing, so that pauses and busy neighbours cost nothing; on a GPU, of the wall."""
        return time.process_time() / torch.get_num_threads() if self.run.device == "cpu" else time.monotonic()

    def steps(self):
        """Yields (step, share of the budget spent)."""
        while self.spent < self.seconds:
            before = self.clock()
            yield self.step, self.spent / self.seconds
            self.step += 1
            self.spent += self.clock() - before
        self.save()

    def note(self, loss, pictures, **_):
        self.losses.append(loss)
        self.pictures += pictures

    def due(self, every=60):
        return self.spent - self.last_report >= every

    def report(self, **figures):
        self.last_report = self.spent
        self.save()
        words = " ".join(f"{k} {v:.4g}" for k, v in figures.items())
        print(f"{time.strftime('%H:%M:%S')} {self.name} step {self.step} {self.spent / 60:.1f} min {self.pictures} pictures "
              f"loss {sum(self.losses) / len(self.losses):.4f} {words}", flush=True)
        self.losses = []

    def save(self):
        saved = {key: part.state_dict() for key, part in self.parts.items()}
        torch.save({**saved, "step": self.step, "spent": self.spent, "pictures": self.pictures}, self.file + ".new")
        os.replace(self.file + ".new", self.file)
