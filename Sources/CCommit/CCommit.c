#include "CCommit.h"
