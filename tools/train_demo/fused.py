"""Loads fused.cpp, compiled on first use where there is a compiler; a GPU does well without it."""
import os
import shutil
import subprocess
import tempfile

import torch

HERE = os.path.dirname(os.path.abspath(__file__))


def compiled(folder):
    """The library's path, or None where it cannot be built."""
    library = os.path.join(folder, "fused.so")
    if shutil.which("g++") is None:
        return None
    torch_folder = os.path.dirname(torch.__file__)
    command = ["g++", "-O3", "-march=native", "-ffast-math", "-std=c++17", "-fPIC", "-shared", "-fopenmp",
               f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}",
               "-w", "-I" + os.path.join(torch_folder, "include"), os.path.join(HERE, "fused.cpp"), "-o", library,
               "-L" + os.path.join(torch_folder, "lib"), "-ltorch_cpu", "-lc10"]
    return library if subprocess.run(command).returncode == 0 else None


def load():
    if torch.cuda.is_available():
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = compiled(folder)
        if library is None:
            return None
        torch.ops.load_library(library)
    return torch.ops.train_demo


OPS = load()


class NormSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, groups, eps):
        y, stats, affine = OPS.norm_silu(x, weight, bias, groups, eps)
        ctx.save_for_backward(x, stats, affine, weight)
        return y

    @staticmethod
    def backward(ctx, dy):
        return (*OPS.norm_silu_backward(dy, *ctx.saved_tensors), None, None)


class Upsample(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        n, c, h, w = x.shape
        y = x.permute(0, 2, 3, 1)[:, :, None, :, None, :].expand(n, h, 2, w, 2, c)
        return y.reshape(n, 2 * h, 2 * w, c).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, dy):
        return OPS.upsample_backward(dy)
