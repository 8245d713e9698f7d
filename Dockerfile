# Code and dependencies of a run, for Docker and Kubernetes work pools; no secret and no setting.
FROM python:3.11-slim

WORKDIR /app
ENV PYTHONPATH=/app
COPY requirements.txt .
# The file is complete, so nothing is left to resolve.
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements.txt

COPY pyproject.toml prefect.yaml ./
COPY flows flows
COPY tasks tasks

RUN useradd --create-home runner
USER runner
