"""Heads by themselves: losses, scores and gradients."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.parity_checks.goldens import BATCHES, QAMO_OPTIONS, check, difference, golden, relative
from loss import QAMO, OCSoftmax


@check("QAMO head: losses, logits, scores, gradients (relative)", 1e-5)
def qamo() -> Iterator[float]:
    arrays = golden("head_qamo.npz")
    for batch in BATCHES:
        head = QAMO(16, **QAMO_OPTIONS)
        head.centroids.data = torch.from_numpy(arrays["center"]).clone()
        embedding = torch.from_numpy(arrays["emb"]).requires_grad_()
        bonafide = torch.from_numpy(arrays[f"{batch}/labels"]).bool()
        losses = head.loss(embedding, bonafide, torch.from_numpy(arrays[f"{batch}/q"]))
        losses["total"].backward()
        yield relative(losses["one_class"], arrays[f"{batch}/cls"])
        yield relative(losses["quality"], arrays[f"{batch}/ce"])
        yield relative(losses["total"], arrays[f"{batch}/total"])
        yield relative(embedding.grad, arrays[f"{batch}/grad_emb"])
        yield relative(head.centroids.grad, arrays[f"{batch}/grad_center"])
        yield relative(head.loss(embedding, bonafide)["total"], arrays[f"{batch}/val_loss"])
        yield difference(head.cosines(embedding), arrays["scores"])


@check("OC-Softmax head: losses, scores, gradients, initial centre (relative)", 1e-5)
def oc_softmax() -> Iterator[float]:
    arrays = golden("head_ocsoftmax.npz")
    for batch in ("mixed", "all0_bona", "all1_spoof", "default_r_fake0.5"):
        radius_spoof = 0.5 if batch.startswith("default") else 0.2
        head = OCSoftmax(16, radius_bonafide=0.9, radius_spoof=radius_spoof, alpha=20.0)
        head.centroids.data = torch.from_numpy(arrays["center"]).clone()
        embedding = torch.from_numpy(arrays["emb"]).requires_grad_()
        loss = head.loss(embedding, torch.from_numpy(arrays[f"{batch}/labels_air"]) == 0)["total"]
        loss.backward()
        yield relative(loss, arrays[f"{batch}/loss"])
        if f"{batch}/grad_emb" in arrays:
            yield relative(embedding.grad, arrays[f"{batch}/grad_emb"])
            yield relative(head.centroids.grad, arrays[f"{batch}/grad_center"])
    torch.manual_seed(5)
    fresh = OCSoftmax(16, radius_bonafide=0.9, radius_spoof=0.2, alpha=20.0)
    yield difference(fresh.centroids, arrays["init_center_seed5"])
