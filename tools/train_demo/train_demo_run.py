"""Trains the demo model and writes its folder: autoencoder, latents, UNet and text encoder, decoder, export.

Every stage has a budget of minutes and a checkpoint in the work folder; run the same command again to resume.
"""
import argparse

import torch

from export import export
from pictures import Sprites
from run_state import Run
import latents as latents_stage
import polish_stage
import unet_stage
import vae_stage


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, help="folder for checkpoints")
    parser.add_argument("--out", required=True, help="model folder to write")
    parser.add_argument("--minutes", type=float, default=90, help="time for all stages together")
    parser.add_argument("--vae-minutes", type=float, help="default: 40 %% of all")
    parser.add_argument("--unet-minutes", type=float, help="default: 45 %% of all")
    parser.add_argument("--polish-minutes", type=float, help="default: 15 %% of all")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    run = Run(args.work, "cuda" if torch.cuda.is_available() else "cpu")
    sprites = Sprites()
    vae = vae_stage.train(run, sprites, args.vae_minutes or 0.40 * args.minutes, args.seed)
    rows, latents = latents_stage.prepare(run, vae, sprites, args.seed)
    model, tokenizer = unet_stage.train(run, vae, rows, latents, args.unet_minutes or 0.45 * args.minutes, args.seed)
    vae = polish_stage.train(run, sprites, vae, model, tokenizer, rows, latents, args.polish_minutes or 0.15 * args.minutes, args.seed)
    export(args.out, vae, model, tokenizer)


if __name__ == "__main__":
    main()
