"""One file per algorithm: networks, acting, losses, objectives."""
