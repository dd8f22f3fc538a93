"""How a receiver verifies a message: code to paste, for the libraries of the Standard Webhooks project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Snippet:
    """One language: how to install the library, and the handler."""

    id: str
    label: str
    install: str
    code: str


_PYTHON = """import os

from flask import Flask, request
from standardwebhooks import Webhook, WebhookVerificationError

app = Flask(__name__)
webhook = Webhook(os.environ["WEBHOOK_SECRET"])  # whsec_...


@app.post("/hook")
def hook():
    try:
        message = webhook.verify(request.get_data(), dict(request.headers))
    except WebhookVerificationError:
        return "", 400
    # A message may come more than once: remember request.headers["webhook-id"].
    print(message["type"], message["data"])
    return "", 204"""

_NODE = """import express from "express";
import { Webhook } from "standardwebhooks";

const app = express();
const webhook = new Webhook(process.env.WEBHOOK_SECRET); // whsec_...

// The signature is over the bytes as they came: no JSON parser before it.
app.post("/hook", express.raw({ type: "application/json" }), (req, res) => {
  let message;
  try {
    message = webhook.verify(req.body, req.headers);
  } catch {
    return res.sendStatus(400);
  }
  // A message may come more than once: remember req.headers["webhook-id"].
  console.log(message.type, message.data);
  res.sendStatus(204);
});

app.listen(3000);"""

SNIPPETS: Final = (
    Snippet("python", "Python", "pip install standardwebhooks flask", _PYTHON),
    Snippet("node", "Node", "npm install standardwebhooks express", _NODE),
)
