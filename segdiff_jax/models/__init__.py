"""Networks: the image encoder G, the mask encoder F, the U-Net E and D, and their assembly."""
