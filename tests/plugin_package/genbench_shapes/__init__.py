"""One model, one dataset, one metric and one feature extractor, offered to genbench by entry points."""
