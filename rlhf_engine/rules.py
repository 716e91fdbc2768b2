def vowels(prompt: str, response: str, finished: bool) -> float:
    return sum(c in "aeiou" for c in response) / max(1, len(response))


RULES = {"vowels": vowels}
