"""Where images come from: trained models, weight files, files of images, and scale rows."""

from __future__ import annotations
