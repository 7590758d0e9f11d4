"""Images as files: what they may claim before they are decoded, and how they are decoded."""
