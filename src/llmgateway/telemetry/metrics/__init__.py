"""Metrics: what is counted for every model call, and how Prometheus, people and OTLP read it."""

from llmgateway.telemetry.metrics.metrics import Metrics

__all__ = ["Metrics"]
