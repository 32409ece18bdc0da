"""Beam's pool of Python workers at one address: `python -m tests.pipelines.flink_pool
127.0.0.2:50000`.

`apache_beam.runners.worker.worker_pool_main` listens at every address of a machine, as is right
where a machine has one TaskManager. Two TaskManagers must not share a pool: both call their first
worker 1-1, and when one of them stops it, the other's is killed.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

if __name__ == "__main__":
    # a second pool at the address is an error
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(
        BeamFnExternalWorkerPoolServicer(use_process=True), server
    )
    server.add_insecure_port(sys.argv[1])
    server.start()
    server.wait_for_termination()
