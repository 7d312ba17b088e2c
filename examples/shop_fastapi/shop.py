"""A small shop, written before anybody thought of security: no keys, no limits, careless logging."""

import logging
import os
from typing import Any

from fastapi import FastAPI, Response

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
logger = logging.getLogger("shop")

DATABASE_URL = os.environ.get("SHOP_DATABASE_URL", "postgresql://localhost/shop")
ITEMS = [{"id": 1, "name": "kettle", "price": 2900}, {"id": 2, "name": "teapot", "price": 3400}]

app = FastAPI(title="shop")


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/v1/items")
def items() -> list[dict[str, Any]]:
    return ITEMS


@app.post("/v1/orders", status_code=201)
def order(body: dict[str, Any]) -> dict[str, Any]:
    logger.info("order: %s", body)
    return {"order": "order-1042", "items": body.get("items", [])}


@app.post("/v1/refunds", status_code=201)
def refund(body: dict[str, Any]) -> dict[str, Any]:
    logger.info("refund: %s", body)  # the whole body, card number and all
    return {"refunded": body.get("order"), "amount": body.get("amount")}


@app.post("/v1/cards/{card}/block")
def block(card: str) -> Response:
    logger.info("blocking card %s", card)
    return Response(status_code=204)


@app.get("/v1/report")
def report() -> dict[str, Any]:
    raise ConnectionError(f"cannot reach {DATABASE_URL}")  # with the password that stands in it
