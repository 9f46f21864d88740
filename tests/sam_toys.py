"""Segment Anything checkpoints with random weights, written by save_pretrained like the real ones."""

from pathlib import Path

import numpy as np
import torch

SPREAD = 0.8
"""Standard deviation of the weights: the usual 0.02 gives logits close to 0 and the same masks for all points."""


def write_sam(folder: Path, size: int = 128, seed: int = 11, spread: float = SPREAD) -> Path:
    """Write a SAM checkpoint of 95,000 weights for images of `size` pixels; its masks are meaningless."""
    from transformers import SamConfig, SamImageProcessor, SamModel, SamProcessor
    from transformers.utils import logging

    torch.manual_seed(seed)
    config = SamConfig(
        vision_config={
            **{"hidden_size": 32, "output_channels": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
            **{"image_size": size, "window_size": 4, "global_attn_indexes": [1], "num_pos_feats": 16, "mlp_dim": 64},
            "initializer_range": spread,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": size, "mask_input_channels": 4},
        mask_decoder_config={
            **{"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2},
            **{"iou_head_depth": 2, "iou_head_hidden_dim": 32},
        },
        initializer_range=spread,
    )
    logging.disable_progress_bar()
    SamModel(config).save_pretrained(folder)
    small = size // 4
    processor = SamImageProcessor(
        size={"longest_edge": size},
        pad_size={"height": size, "width": size},
        mask_size={"longest_edge": small},
        mask_pad_size={"height": small, "width": small},
    )
    SamProcessor(processor).save_pretrained(folder)
    return folder


def write_sam2(folder: Path) -> Path:
    """Write a SAM 2 checkpoint of 358,000 weights for images of 128 pixels."""
    from transformers import Sam2Config, Sam2HieraDetConfig, Sam2ImageProcessor, Sam2Model, Sam2Processor
    from transformers import Sam2VisionConfig as Vision
    from transformers.utils import logging

    torch.manual_seed(0)
    backbone = Sam2HieraDetConfig(
        hidden_size=16,
        num_attention_heads=1,
        image_size=[128, 128],
        blocks_per_stage=[1, 2, 2, 1],
        embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[4, 2, 4, 2],
        global_attention_blocks=[4],
        window_positional_embedding_background_size=[2, 2],
    )
    vision = Vision(
        backbone_config=backbone,
        backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=32,
    )
    prompts = {"hidden_size": 32, "image_size": 128, "patch_size": 16, "mask_input_channels": 4}
    decoder = {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2}
    decoder |= {"iou_head_hidden_dim": 32, "iou_head_depth": 2}
    logging.disable_progress_bar()
    model = Sam2Model(Sam2Config(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder))
    model.save_pretrained(folder)
    processor = Sam2ImageProcessor(size={"height": 128, "width": 128}, mask_size={"height": 32, "width": 32})
    Sam2Processor(processor).save_pretrained(folder)
    return folder


def scene(seed: int, height: int = 40, width: int = 60) -> np.ndarray:
    """Generate a noisy image of 12 colored rectangles, uint8 [3, height, width]."""
    random = np.random.default_rng([5, seed])
    fields = random.integers(30, 220, (3, 3, 4)).repeat(-(-height // 3), 1).repeat(-(-width // 4), 2)
    return (fields[:, :height, :width] + random.integers(-20, 20, (3, height, width))).astype(np.uint8)
