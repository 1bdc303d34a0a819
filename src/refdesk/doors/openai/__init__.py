"""OpenAI's wire format: chat completions, models, embeddings."""
