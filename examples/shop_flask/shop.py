"""A small shop, written before anybody thought of security: no keys, no limits, careless logging."""

import logging
import os
from typing import Any

from flask import Flask, request

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
logger = logging.getLogger("shop")

DATABASE_URL = os.environ.get("SHOP_DATABASE_URL", "postgresql://localhost/shop")
ITEMS = [{"id": 1, "name": "kettle", "price": 2900}, {"id": 2, "name": "teapot", "price": 3400}]

app = Flask("shop")


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/v1/items")
def items() -> list[dict[str, Any]]:
    return ITEMS


@app.post("/v1/orders")
def order() -> tuple[dict[str, Any], int]:
    body = request.get_json()
    logger.info("order: %s", body)
    return {"order": "order-1042", "items": body.get("items", [])}, 201


@app.post("/v1/refunds")
def refund() -> tuple[dict[str, Any], int]:
    body = request.get_json()
    logger.info("refund: %s", body)  # the whole body, card number and all
    return {"refunded": body.get("order"), "amount": body.get("amount")}, 201


@app.post("/v1/cards/<card>/block")
def block(card: str) -> tuple[str, int]:
    logger.info("blocking card %s", card)
    return "", 204


@app.get("/v1/report")
def report() -> dict[str, Any]:
    raise ConnectionError(f"cannot reach {DATABASE_URL}")  # with the password that stands in it
