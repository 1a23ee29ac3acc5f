native: ; @true
