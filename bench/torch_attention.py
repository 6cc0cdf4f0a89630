"""torch_attention.py: PyTorch's fused attention on bench_ops's shapes, in f16: what our kernel is measured against on the
same card. Prints a line a shape, as bench_ops does: the mean of 50 calls between two events, behind ten."""
import torch
import torch.nn.functional as F

# Pictures, rows, columns, channels; keys; heads: the rows of bench_ops.c.
SHAPES = ((2, 64, 64, 320, 4096, 8), (2, 32, 32, 640, 1024, 8), (2, 16, 16, 1280, 256, 8), (2, 64, 64, 320, 77, 8),
          (1, 64, 64, 512, 4096, 1), (1, 128, 128, 512, 16384, 1))


def heads_of(n, tokens, c, heads):
    return torch.randn(n, tokens, heads, c // heads, device="cuda", dtype=torch.half).transpose(1, 2)


for n, h, w, c, keys, heads in SHAPES:
    q, k, v = heads_of(n, h * w, c, heads), heads_of(n, keys, c, heads), heads_of(n, keys, c, heads)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for i in range(60):
        if i == 10:
            start.record()
        F.scaled_dot_product_attention(q, k, v, scale=0.1)
    end.record()
    torch.cuda.synchronize()
    ms = start.elapsed_time(end) / 50
    print(f"attention [{n},{h},{w},{c}] x {keys:<14} {ms:9.3f} ms {4 * n * h * w * c * keys / ms / 1e6:7.1f} GF/s")
