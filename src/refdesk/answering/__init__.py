"""The AI Service, api role: questions in, answers out."""
