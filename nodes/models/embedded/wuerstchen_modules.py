"""The one place that imports the Würstchen classes that diffusers keeps among its deprecated pipelines.

They serve as oracles in tests and as modules that are easy to train; nothing that a graph runs comes here.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel
    from diffusers.pipelines.deprecated.wuerstchen.modeling_wuerstchen_diffnext import WuerstchenDiffNeXt
    from diffusers.pipelines.deprecated.wuerstchen.modeling_wuerstchen_prior import WuerstchenPrior
    from diffusers.pipelines.deprecated.wuerstchen.pipeline_wuerstchen import WuerstchenDecoderPipeline
    from diffusers.pipelines.deprecated.wuerstchen.pipeline_wuerstchen_prior import (
        DEFAULT_STAGE_C_TIMESTEPS,
        WuerstchenPriorPipeline,
    )
    from diffusers.schedulers.scheduling_ddpm_wuerstchen import DDPMWuerstchenScheduler

__all__ = [
    "DEFAULT_STAGE_C_TIMESTEPS",
    "DDPMWuerstchenScheduler",
    "PaellaVQModel",
    "WuerstchenDecoderPipeline",
    "WuerstchenDiffNeXt",
    "WuerstchenPrior",
    "WuerstchenPriorPipeline",
]
