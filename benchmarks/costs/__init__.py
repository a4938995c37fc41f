"""What a picture costs by published architectures: their pipelines, counted and measured."""
