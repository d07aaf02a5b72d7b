"""Programs built on framing's public API alone: proof that it carries them, and examples to start from."""
