package control

import "time"

const stapleLife = 4 * 24 * time.Hour
