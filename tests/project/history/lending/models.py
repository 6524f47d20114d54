"""The models as the last migration leaves them."""

from __future__ import annotations

from typing import Any

from django.db import models

from tests.project.history.models import Paper, Shelf


class Loan(models.Model):
    paper = models.ForeignKey(Paper, models.CASCADE)
    day = models.DateField()
    back_on = models.ForeignKey(Shelf, models.CASCADE, null=True)

    def natural_key(self) -> tuple[Any, ...]:
        return (self.day,)
