#pragma once
#include <linux/kvm.h>
#include <sys/ioctl.h>
