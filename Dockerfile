# Images of the farm: `cpu` (export, reference, compile, compare; Python 3.11), `device` (a card's worker)
# and `coordinator` (both small, on the Python of the card hosts). The SDK is mounted, never copied in.

FROM python:3.11-slim-bookworm AS cpu
# libgomp1: ONNX Runtime and torch; libpci3, libudev1: what the SDK's tools are linked against.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 libpci3 libudev1 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --create-home --uid 990 farm \
 && install --directory --owner farm --group farm /var/lib/aic-farm
WORKDIR /opt/aic-farm
COPY constraints/py311.txt constraints/
COPY pyproject.toml README.md LICENSE ./
COPY farm farm
COPY tasks tasks
COPY lut_nlp_models.csv ./
RUN pip install --no-cache-dir --constraint constraints/py311.txt '.[cpu]'
USER farm
ENV FARM_HOME=/var/lib/aic-farm PYTHONUNBUFFERED=1
ENTRYPOINT ["farm"]
CMD ["worker", "cpu"]

FROM python:3.10-slim-bookworm AS slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libpci3 libudev1 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --system qaic \
 && useradd --system --create-home --uid 990 --groups qaic farm \
 && install --directory --owner farm --group farm /var/lib/aic-farm
WORKDIR /opt/aic-farm
COPY constraints/py310.txt constraints/
COPY pyproject.toml README.md LICENSE ./
COPY farm farm
COPY tasks tasks
COPY lut_nlp_models.csv ./
RUN pip install --no-cache-dir --constraint constraints/py310.txt '.[worker]'
USER farm
ENV FARM_HOME=/var/lib/aic-farm PYTHONUNBUFFERED=1
ENTRYPOINT ["farm"]

FROM slim AS device
CMD ["worker", "device", "0"]

FROM slim AS coordinator
CMD ["coordinator"]

FROM cpu AS flower
USER root
RUN pip install --no-cache-dir --constraint constraints/py311.txt '.[flower]'
USER farm
ENTRYPOINT ["celery"]
CMD ["-A", "tasks", "flower", "--address=0.0.0.0"]
