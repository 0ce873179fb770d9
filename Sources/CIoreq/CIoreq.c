#include "CIoreq.h"
