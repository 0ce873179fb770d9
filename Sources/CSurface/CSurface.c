#include "CSurface.h"
