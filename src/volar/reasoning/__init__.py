"""What happens between words and motion: requests to language models, and what their answers mean."""
