#include "CNDABI6.h"
