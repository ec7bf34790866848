"""Class weights and focal loss as PyTorch has them, and the gradients it gives.

usage: make_class_loss.py > class_loss.json

Weighted: torch.nn.CrossEntropyLoss(weight=w), whose mean divides by the sum of the weights of the
targets. Focal: the mean of (1 - p)^gamma * -log p (Lin et al. 2017, equation 4), written out.
"""

import json

import torch

torch.manual_seed(11)
logits = torch.randn(12, 3, dtype=torch.float64).float().double()
targets = torch.tensor([0, 0, 1, 0, 2, 0, 0, 1, 0, 0, 1, 0])
counts = torch.bincount(targets).double()
weights = {
    "auto": len(targets) / (3 * counts),
    "half": (len(targets) / (3 * counts)) ** 0.5,
    "given": torch.tensor([1.0, 2.5, 0.5], dtype=torch.float64),
}


def case(loss):
    leaf = logits.clone().requires_grad_(True)
    value = loss(leaf)
    value.backward()
    return {"loss": value.item(), "gradient": leaf.grad.flatten().tolist()}


def focal(gamma):
    def loss(z):
        log_p = torch.log_softmax(z, 1).gather(1, targets[:, None])[:, 0]
        return ((1 - log_p.exp()) ** gamma * -log_p).mean()

    return loss


cases = {}
for name, w in weights.items():
    criterion = torch.nn.CrossEntropyLoss(weight=w)
    cases[name] = case(lambda z: criterion(z, targets))
for gamma in (0.5, 2.0, 5.0):
    cases[f"focal {gamma}"] = case(focal(gamma))
print(json.dumps({"logits": logits.flatten().tolist(), "targets": targets.tolist(), "cases": cases}))
