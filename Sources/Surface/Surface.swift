// Surface
