"""Australian suburbs: where the properties of the data set stand and what they cost."""

from typing import NamedTuple


class Suburb(NamedTuple):
    """One suburb; names are unique in the list, `median_price` is in thousands of dollars."""

    name: str
    state: str
    postcode: str
    latitude: float
    longitude: float
    median_price: int


SUBURBS = (
    Suburb("Bondi Beach", "NSW", "2026", -33.8915, 151.2767, 3900),
    Suburb("Newtown", "NSW", "2042", -33.8981, 151.1745, 1700),
    Suburb("Surry Hills", "NSW", "2010", -33.8846, 151.2127, 1900),
    Suburb("Parramatta", "NSW", "2150", -33.8150, 151.0011, 1050),
    Suburb("Manly", "NSW", "2095", -33.7963, 151.2855, 3900),
    Suburb("Marrickville", "NSW", "2204", -33.9110, 151.1550, 1850),
    Suburb("Chatswood", "NSW", "2067", -33.7969, 151.1832, 2400),
    Suburb("Penrith", "NSW", "2750", -33.7511, 150.6942, 900),
    Suburb("Cronulla", "NSW", "2230", -34.0560, 151.1520, 2600),
    Suburb("Leichhardt", "NSW", "2040", -33.8830, 151.1570, 2000),
    Suburb("Hurstville", "NSW", "2220", -33.9670, 151.1020, 1600),
    Suburb("Wollongong", "NSW", "2500", -34.4278, 150.8931, 1100),
    Suburb("Newcastle", "NSW", "2300", -32.9283, 151.7817, 1150),
    Suburb("Byron Bay", "NSW", "2481", -28.6474, 153.6020, 2400),
    Suburb("Orange", "NSW", "2800", -33.2836, 149.1013, 640),
    Suburb("Wagga Wagga", "NSW", "2650", -35.1082, 147.3598, 560),
    Suburb("Fitzroy", "VIC", "3065", -37.7990, 144.9780, 1550),
    Suburb("Carlton", "VIC", "3053", -37.8000, 144.9670, 1400),
    Suburb("Brunswick", "VIC", "3056", -37.7670, 144.9600, 1250),
    Suburb("St Kilda", "VIC", "3182", -37.8676, 144.9810, 1600),
    Suburb("Footscray", "VIC", "3011", -37.8000, 144.9000, 930),
    Suburb("Preston", "VIC", "3072", -37.7420, 145.0000, 1130),
    Suburb("Toorak", "VIC", "3142", -37.8410, 145.0180, 5000),
    Suburb("Box Hill", "VIC", "3128", -37.8190, 145.1220, 1550),
    Suburb("Geelong", "VIC", "3220", -38.1499, 144.3617, 820),
    Suburb("Ballarat Central", "VIC", "3350", -37.5622, 143.8503, 620),
    Suburb("Bendigo", "VIC", "3550", -36.7570, 144.2794, 580),
    Suburb("Werribee", "VIC", "3030", -37.9000, 144.6600, 640),
    Suburb("Frankston", "VIC", "3199", -38.1440, 145.1260, 750),
    Suburb("Coburg", "VIC", "3058", -37.7440, 144.9640, 1180),
    Suburb("Williamstown", "VIC", "3016", -37.8570, 144.8970, 1550),
    Suburb("New Farm", "QLD", "4005", -27.4680, 153.0510, 2500),
    Suburb("West End", "QLD", "4101", -27.4800, 153.0050, 1550),
    Suburb("Paddington", "QLD", "4064", -27.4600, 153.0000, 1750),
    Suburb("Toowong", "QLD", "4066", -27.4850, 152.9830, 1400),
    Suburb("Fortitude Valley", "QLD", "4006", -27.4570, 153.0350, 1100),
    Suburb("Surfers Paradise", "QLD", "4217", -28.0027, 153.4300, 1500),
    Suburb("Noosa Heads", "QLD", "4567", -26.3960, 153.0900, 2100),
    Suburb("Toowoomba City", "QLD", "4350", -27.5598, 151.9507, 650),
    Suburb("Cairns City", "QLD", "4870", -16.9203, 145.7710, 680),
    Suburb("Townsville City", "QLD", "4810", -19.2590, 146.8169, 600),
    Suburb("Ipswich", "QLD", "4305", -27.6150, 152.7600, 600),
    Suburb("Chermside", "QLD", "4032", -27.3860, 153.0310, 950),
    Suburb("Fremantle", "WA", "6160", -32.0569, 115.7439, 1150),
    Suburb("Subiaco", "WA", "6008", -31.9480, 115.8270, 1600),
    Suburb("Cottesloe", "WA", "6011", -31.9950, 115.7580, 3000),
    Suburb("Scarborough", "WA", "6019", -31.8940, 115.7590, 1100),
    Suburb("Joondalup", "WA", "6027", -31.7450, 115.7660, 780),
    Suburb("Mandurah", "WA", "6210", -32.5269, 115.7217, 590),
    Suburb("Bunbury", "WA", "6230", -33.3271, 115.6414, 560),
    Suburb("Glenelg", "SA", "5045", -34.9800, 138.5150, 1400),
    Suburb("Norwood", "SA", "5067", -34.9210, 138.6300, 1500),
    Suburb("Unley", "SA", "5061", -34.9500, 138.6070, 1600),
    Suburb("Prospect", "SA", "5082", -34.8850, 138.5940, 1050),
    Suburb("Port Adelaide", "SA", "5015", -34.8460, 138.5030, 640),
    Suburb("Mount Gambier", "SA", "5290", -37.8284, 140.7804, 430),
    Suburb("Battery Point", "TAS", "7004", -42.8920, 147.3340, 1400),
    Suburb("Sandy Bay", "TAS", "7005", -42.9070, 147.3290, 1200),
    Suburb("Launceston", "TAS", "7250", -41.4391, 147.1358, 560),
    Suburb("Devonport", "TAS", "7310", -41.1770, 146.3510, 480),
    Suburb("Braddon", "ACT", "2612", -35.2710, 149.1350, 1000),
    Suburb("Kingston", "ACT", "2604", -35.3150, 149.1400, 1100),
    Suburb("Belconnen", "ACT", "2617", -35.2390, 149.0660, 780),
    Suburb("Darwin City", "NT", "0800", -12.4634, 130.8456, 650),
    Suburb("Alice Springs", "NT", "0870", -23.6980, 133.8807, 480),
    Suburb("Palmerston", "NT", "0830", -12.4860, 130.9830, 520),
)
