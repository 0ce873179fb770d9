// LocalCPU
