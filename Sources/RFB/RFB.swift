// RFB
